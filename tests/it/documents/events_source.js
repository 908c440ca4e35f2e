const eventSource = new EventSource('/api/v1/events/stream/default');

eventSource.onmessage = function(event) {
    const eventData = JSON.parse(event.data);
    console.log('Received event:', eventData);

    switch(eventData.type) {
        case 'user_action':
            handleUserAction(eventData);
            break;
        case 'system_alert':
            handleSystemAlert(eventData);
            break;
        case 'notification':
            showNotification(eventData);
            break;
    }
};

eventSource.onerror = function(error) {
    console.error('EventSource failed:', error);
    eventSource.close();
};
